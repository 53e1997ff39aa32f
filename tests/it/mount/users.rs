//! Users against each other: who may do what to whose image, in every status, by every operation.
//!
//! What is expected is said by a small model of the specification (`users::model`) that knows nothing of the product.

mod acts;
mod borrowed;
mod doors;
mod forgery;
mod matrix;
mod model;
mod tasks;
