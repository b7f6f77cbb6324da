//! Model checks: every interleaving of small worlds, driving the product's own machines.

mod pairing;
