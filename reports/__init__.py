"""The store as pages: an index, a page a task, a page a failure. Never imports torch."""
