"""The names of the concepts for the labels of the typed sets, written down before anything was measured with them.

Labels are abbreviations and identifiers; a concept is the name that a person would give to the type. Nothing here was
changed after a result was seen.
"""

MIT_MOVIE = {
    "ACTOR": "actor", "CHARACTER": "film character", "DIRECTOR": "film director", "GENRE": "film genre",
    "PLOT": "plot element", "RATING": "film rating", "RATINGS_AVERAGE": "review rating", "REVIEW": "review",
    "SONG": "song", "TITLE": "film", "TRAILER": "trailer", "YEAR": "year",
}  # fmt: skip
MIT_RESTAURANT = {
    "Amenity": "restaurant amenity", "Cuisine": "cuisine", "Dish": "dish", "Hours": "opening hours",
    "Location": "location", "Price": "price", "Rating": "restaurant rating", "Restaurant_Name": "restaurant",
}  # fmt: skip
BIONLP = {"DNA": "DNA", "RNA": "RNA", "cell_line": "cell line", "cell_type": "cell type", "protein": "protein"}
CROSSNER = {
    "academicjournal": "academic journal", "algorithm": "algorithm", "astronomicalobject": "astronomical object",
    "award": "award", "chemicalcompound": "chemical compound", "chemicalelement": "chemical element",
    "conference": "conference", "country": "country", "discipline": "academic discipline", "election": "election",
    "enzyme": "enzyme", "event": "event", "field": "research field", "location": "location", "metrics": "metric",
    "misc": "miscellaneous", "organisation": "organisation", "person": "person", "politicalparty": "political party",
    "politician": "politician", "product": "product", "programlang": "programming language", "protein": "protein",
    "researcher": "researcher", "scientist": "scientist", "task": "task", "theory": "theory",
    "university": "university",
}  # fmt: skip
# the test types of Few-NERD INTER; "location-other" is named by the coarse type alone
FEW_NERD_INTER = {
    "art-music": "music", "art-writtenart": "written work", "building-hospital": "hospital",
    "building-theater": "theater", "event-election": "election", "event-sportsevent": "sports event",
    "location-bodiesofwater": "body of water", "location-other": "location",
    "organization-politicalparty": "political party", "organization-government/governmentagency": "government agency",
    "other-educationaldegree": "educational degree", "other-livingthing": "living thing", "other-medical": "disease",
    "person-actor": "actor", "person-athlete": "athlete", "product-car": "car", "product-weapon": "weapon",
}  # fmt: skip
# by the names that the benchmarks use for the sets
CONCEPTS = {
    "MIT Movie": MIT_MOVIE,
    "MIT Restaurant": MIT_RESTAURANT,
    "BioNLP 2004": BIONLP,
    "Few-NERD INTER": FEW_NERD_INTER,
    "CrossNER AI": CROSSNER,
    "CrossNER politics": CROSSNER,
    "CrossNER science": CROSSNER,
}
