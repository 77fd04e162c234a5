"""Named features: what a distance between sets of images is measured on."""
