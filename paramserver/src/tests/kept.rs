//! What is kept of a job, how long, and what is rebuilt from it.
