//! Writing what was read: the encoders against the parser.

use super::{
    Message, put_abandon, put_accept, put_ack, put_challenge, put_channels, put_close, put_connection_window,
    put_data, put_finish, put_link_preference, put_message_fin, put_new_id, put_open, put_part, put_ping,
    put_reset, put_response, put_retire_link, put_stop, put_window,
};

/// Appends what the message says.
pub(crate) fn put_again(out: &mut Vec<u8>, message: &Message<'_>) {
    match *message {
        Message::Ping => put_ping(out),
        Message::Ack(ack) => {
            put_ack(out, ack.link, ack.ranges(), ack.delay_us, ack.ecn, usize::MAX);
        }
        Message::Data { offset, fin, bytes } => put_data(out, offset, fin, bytes),
        Message::Part { number, end, offset, bytes } => put_part(out, number, end, offset, bytes),
        Message::Fin { final_offset, messages } => put_message_fin(out, final_offset, messages),
        Message::Abandon(abandon) => {
            let ranges: Vec<_> = abandon.ranges().collect();
            put_abandon(out, abandon.channel, ranges.into_iter(), usize::MAX);
        }
        Message::Open { channel, capabilities, priority, label } => {
            put_open(out, channel, capabilities, priority, label);
        }
        Message::Accept { channel } => put_accept(out, channel),
        Message::Window { channel, max_offset, max_messages } => {
            put_window(out, channel, max_offset, max_messages);
        }
        Message::Reset { channel, code, final_offset } => put_reset(out, channel, code, final_offset),
        Message::Stop { channel, code } => put_stop(out, channel, code),
        Message::Finish { channel, final_offset, messages } => {
            put_finish(out, channel, final_offset, messages);
        }
        Message::ConnectionWindow { max_bytes } => put_connection_window(out, max_bytes),
        Message::Channels { bound } => put_channels(out, bound),
        Message::NewId { link, cid, ref reset } => put_new_id(out, link, cid, reset),
        Message::RetireLink { link, code } => put_retire_link(out, link, code),
        Message::Challenge(token) => put_challenge(out, token),
        Message::Response(token) => put_response(out, token),
        Message::LinkPreference { link, available } => put_link_preference(out, link, available),
        Message::Close { code, text } => {
            put_close(out, code, &String::from_utf8_lossy(text), usize::MAX);
        }
        Message::Skipped(_) => {}
    }
}
