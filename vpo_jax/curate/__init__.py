"""Query curation (paper, section 3.2): filters users' queries and splits them."""
