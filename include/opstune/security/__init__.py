"""Keys, encryption and signatures: what makes a file unreadable to strangers and a changed byte visible."""
