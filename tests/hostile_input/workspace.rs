//! A workspace is data: it names no key, no address and no command that its user has not trusted.
