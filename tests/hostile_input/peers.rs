//! Peers that open, announce, repeat and hold on: each is bounded in the unit that costs, and none costs the others.
