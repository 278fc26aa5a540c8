"""The command line, behind the extra `samovar[cli]`. It is never part of an image."""
