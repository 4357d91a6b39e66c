mod certified;
mod hostile;
mod network;
mod noise;
mod story;
mod vectors;
