mod network;
mod noise;
mod story;
