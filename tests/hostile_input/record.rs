//! The record and what comes into it from outside: views that are linear, archives and journals that lie, texts without end.
