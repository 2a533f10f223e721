"""An offline benchmark whose failures have a known cause."""
