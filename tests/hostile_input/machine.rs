//! The machine's other users, its terminal and its clock: private folders, harmless text, certificates that end.
