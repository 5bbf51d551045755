//! Texts that sandboxed code, files and models produce: each is walked once.
