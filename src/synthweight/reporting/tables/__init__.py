"""Tables by kind."""
