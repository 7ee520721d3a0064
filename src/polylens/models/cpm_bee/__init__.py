"""CPM-Bee: a bilingual language model that reads dictionaries and fills in their `<ans>`."""
