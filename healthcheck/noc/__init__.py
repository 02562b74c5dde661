"""The NOC page: what this place knows, for people on watch. It only shows; nothing here changes anything."""
