//! Model checks: every interleaving of small worlds, driving the product's own machines; and one large office.

mod election;
mod office;
mod pairing;
