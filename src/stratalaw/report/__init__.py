"""What a study found, for people to look at: figures, sentences, pages."""
