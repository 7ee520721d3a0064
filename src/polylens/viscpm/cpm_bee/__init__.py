"""CPM-Bee, the language model of VisCPM: tokenizer, dictionary layout, network and generation."""
