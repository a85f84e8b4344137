"""`lepton fetch`: weights from a source into a folder, resumable, checksummed, atomic."""
