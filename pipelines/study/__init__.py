"""One module for each table or figure of a study."""
