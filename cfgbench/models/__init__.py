"""Networks: denoisers, classifiers and extractors of features, and how they run fast on the machine at hand."""
