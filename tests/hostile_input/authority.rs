//! A name is not an authority: callers, places of calls, guests and nodes are types, and what is checked is what is dispatched.
