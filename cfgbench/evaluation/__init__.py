"""Features of images, mergeable statistics of features, and the metrics made from them."""
