"""Records in files of any format we know."""
