//! The whole platform as a newcomer starts it: the executable, its child processes, its private PostgreSQL.

#![cfg(test)]

mod crashes;
mod flow;
mod proof;
mod running;
mod tour;
