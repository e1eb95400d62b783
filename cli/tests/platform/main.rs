//! The whole platform as a newcomer starts it: the executable, its child processes, its private PostgreSQL.

#![cfg(test)]

mod apart;
mod canaries;
mod crashes;
mod dead_letters;
mod down;
mod flow;
mod kafka;
mod proof;
mod running;
mod seen_elsewhere;
mod starting;
mod tour;
mod traffic;
