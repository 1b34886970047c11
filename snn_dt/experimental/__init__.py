"""Research packages that use the core and that the core never imports; see README.md in this folder."""
