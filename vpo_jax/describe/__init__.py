"""What a set of texts is: its words, its self-BLEU, and the page that shows it."""
