//! The whole platform as a newcomer starts it: the executable, its child processes, its private PostgreSQL.

#![cfg(test)]

mod crashes;
mod flow;
mod kafka;
mod proof;
mod running;
mod tour;
