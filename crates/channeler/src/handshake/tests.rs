mod certified;
mod cost;
mod hostile;
mod network;
mod noise;
mod story;
mod vectors;
