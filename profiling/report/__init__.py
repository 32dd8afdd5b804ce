"""What a profile looks like to people: pages, tables, figures."""
