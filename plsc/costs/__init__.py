"""Memory and operations of networks, for planning and the dry run."""
