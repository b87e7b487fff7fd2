"""Query curation (paper, section 3.2): from users' queries to two clean halves."""
