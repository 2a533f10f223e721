"""The page of one failure: its context, the coloured text, the graph, the story of its answer."""
