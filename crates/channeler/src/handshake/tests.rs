mod noise;
mod story;
