"""``libreseed demo``: the whole main job on loopback, with induced damage and a report."""
