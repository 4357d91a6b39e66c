mod hostile;
mod network;
mod noise;
mod story;
