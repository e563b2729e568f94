//! Audio in over HTTP, from the client's bytes to what the service gets: WAV files, Ogg Opus, raw samples.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod greenroom;

use ::greenroom::simulator::RequestState;
use greenroom::Greenroom;

const CLIP: &[u8] = include_bytes!("../../src/cli/demo/clip.wav");
/// The clip's header, as its writer makes it: RIFF, `fmt ` of 16 bytes, `data`.
const HEADER: usize = 44;
/// Frames for a second of audio, and bytes of a second.
const FRAMES: usize = 25;
const SECOND: usize = 32_000;

/// A WAV file with the usual header.
fn wav(channels: u16, rate: u32, bits: u16, samples: &[u8]) -> Vec<u8> {
    let align = channels * bits / 8;
    let mut file = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0".to_vec();
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * u32::from(align)).to_le_bytes());
    file.extend(align.to_le_bytes());
    file.extend(bits.to_le_bytes());
    file.extend(b"data");
    file.extend((samples.len() as u32).to_le_bytes());
    file.extend(samples);
    file
}

/// A page of an Ogg stream at a position in 48 kHz samples (RFC 3533 section 6), with one packet.
fn page(flags: u8, position: u64, sequence: u32, packet: &[u8]) -> Vec<u8> {
    let mut page = [&b"OggS\0"[..], &[flags], &position.to_le_bytes(), &7_u32.to_le_bytes()].concat();
    page.extend(sequence.to_le_bytes());
    // Neither Greenroom nor the simulator looks at the checksum.
    page.extend([0; 4]);
    page.extend([1, u8::try_from(packet.len()).unwrap()]);
    page.extend(packet);
    page
}

/// One second of Ogg Opus, with pages of these sequence numbers.
fn opus(sequences: &[u32; 3]) -> Vec<u8> {
    let [tags, first, last] = *sequences;
    [
        page(2, 0, 0, b"OpusHead\x01\x01\x00\x00\x80\x3e\0\0\0\0\0"),
        page(0, 0, tags, b"OpusTags\0\0\0\0\0\0\0\0"),
        page(0, 24_000, first, &[0xFC; 120]),
        page(4, 48_000, last, &[0xFC; 120]),
    ]
    .concat()
}

#[actix_rt::test]
async fn the_demos_clip_is_spoken_as_its_samples() {
    let greenroom = Greenroom::start().await;
    let session = greenroom.session("pcm_s16le").await;
    let samples = CLIP.len() - HEADER;
    let answer = greenroom.audio(&session, &[CLIP]).await;
    let received = greenroom.received(&answer);
    assert_eq!(received.audio_bytes, samples as u64);
    assert_eq!(answer.json["audio_bytes"], samples);
    assert_eq!(answer.json["frame_count"], (samples * FRAMES).div_ceil(SECOND));
    greenroom.stop().await;
}

#[actix_rt::test]
async fn a_wav_file_in_odd_pieces_and_raw_samples_arrive_alike() {
    let greenroom = Greenroom::start().await;
    let session = greenroom.session("pcm_s16le").await;
    let samples = &CLIP[HEADER..HEADER + SECOND];
    let mut file = wav(1, 16_000, 16, samples);
    file.extend(b"LIST\x05\0\0\0after\0");
    for size in [1, 7, 4095] {
        let file = if size == 1 { wav(1, 16_000, 16, &samples[..400]) } else { file.clone() };
        let expected = if size == 1 { 400 } else { SECOND };
        let pieces: Vec<&[u8]> = file.chunks(size).collect();
        let answer = greenroom.audio(&session, &pieces).await;
        assert_eq!(greenroom.received(&answer).audio_bytes, expected as u64, "in pieces of {size}");
    }
    let raw: Vec<&[u8]> = samples.chunks(333).collect();
    let answer = greenroom.audio(&session, &raw).await;
    assert_eq!(greenroom.received(&answer).audio_bytes, SECOND as u64);
    assert_eq!(answer.json["frame_count"], FRAMES);
    greenroom.stop().await;
}

#[actix_rt::test]
async fn a_wav_file_with_a_trailer_and_a_length_ends_its_request() {
    let greenroom = Greenroom::start().await;
    let session = greenroom.session("pcm_s16le").await;
    let mut file = wav(1, 16_000, 16, &CLIP[HEADER..HEADER + SECOND]);
    // So long that the body's last piece holds no audio.
    file.extend(b"LIST\x00\x00\x04\x00");
    file.extend([0; 1 << 18]);
    let answer = greenroom.audio(&session, &[&file]).await;
    assert_eq!(greenroom.received(&answer).audio_bytes, SECOND as u64);
    greenroom.stop().await;
}

#[actix_rt::test]
async fn a_wav_file_of_another_format_is_refused_and_nothing_is_sent() {
    let greenroom = Greenroom::start().await;
    let session = greenroom.session("pcm_s16le").await;
    let samples = &CLIP[HEADER..HEADER + SECOND];
    for (file, names) in [
        (wav(1, 44_100, 16, samples), ["44100 Hz", "16000 Hz"]),
        (wav(2, 16_000, 16, samples), ["2 channels", "takes 1"]),
        (wav(1, 16_000, 8, samples), ["8 bits", "takes 16"]),
    ] {
        greenroom.audio(&session, &[&file]).await.is_refused("wrongAudioFormat", &names);
        let pieces: Vec<&[u8]> = file.chunks(5).take(12).collect();
        greenroom.audio(&session, &pieces).await.is_refused("wrongAudioFormat", &names);
    }
    greenroom.audio(&session, &[&wav(1, 16_000, 16, &[])]).await.is_refused("emptyAudio", &[]);
    assert_eq!(greenroom.simulator.stats().audio_bytes, 0);
    greenroom.stop().await;
}

#[actix_rt::test]
async fn a_wav_file_that_is_cut_off_is_refused_and_its_request_interrupted() {
    let greenroom = Greenroom::start().await;
    let session = greenroom.session("pcm_s16le").await;
    let half = CLIP.len() / 2;
    let answer = greenroom.audio(&session, &[&CLIP[..1000], &CLIP[1000..half]]).await;
    answer.is_refused("badWav", &["cut off", &(CLIP.len() - half).to_string()]);
    // The next request is none the worse for it.
    let answer = greenroom.audio(&session, &[CLIP]).await;
    let received = greenroom.received(&answer);
    assert_eq!(received.audio_bytes, (CLIP.len() - HEADER) as u64);
    assert_eq!(greenroom.simulator.stats().requests_in(RequestState::Open), 0);
    greenroom.stop().await;
}

#[actix_rt::test]
async fn an_odd_number_of_raw_bytes_is_refused_before_any_is_sent() {
    let greenroom = Greenroom::start().await;
    let session = greenroom.session("pcm_s16le").await;
    greenroom.audio(&session, &[&[1; 33]]).await.is_refused("oddAudio", &["33 bytes"]);
    assert_eq!(greenroom.simulator.stats().audio_bytes, 0);
    greenroom.audio(&session, &[&[1; 20], &[1; 13]]).await.is_refused("oddAudio", &["33 bytes"]);
    greenroom.stop().await;
}

#[actix_rt::test]
async fn ogg_opus_is_passed_on_unchanged() {
    let greenroom = Greenroom::start().await;
    let session = greenroom.session("ogg_opus").await;
    let stream = opus(&[1, 2, 3]);
    let pieces: Vec<&[u8]> = stream.chunks(11).collect();
    for pieces in [&[&stream[..]][..], &pieces] {
        let answer = greenroom.audio(&session, pieces).await;
        assert_eq!(greenroom.received(&answer).audio_bytes, stream.len() as u64);
        assert_eq!(answer.json["frame_count"], FRAMES);
    }
    greenroom.stop().await;
}

#[actix_rt::test]
async fn a_gap_in_an_ogg_stream_is_refused_where_it_is() {
    let greenroom = Greenroom::start().await;
    let session = greenroom.session("ogg_opus").await;
    let stream = opus(&[1, 3, 4]);
    greenroom.audio(&session, &[&stream]).await.is_refused("badOggOpus", &["gap", "3 follows 1", "page 3"]);
    let pieces: Vec<&[u8]> = stream.chunks(16).collect();
    greenroom.audio(&session, &pieces).await.is_refused("badOggOpus", &["gap", "page 3"]);
    let answer = greenroom.audio(&session, &[&opus(&[1, 2, 3])]).await;
    assert_eq!(greenroom.received(&answer).frames, FRAMES as u64);
    greenroom.stop().await;
}

#[actix_rt::test]
async fn the_other_formats_audio_is_refused_by_both_names() {
    let greenroom = Greenroom::start().await;
    let pcm = greenroom.session("pcm_s16le").await;
    let names = ["Ogg", "pcm_s16le"];
    greenroom.audio(&pcm, &[&opus(&[1, 2, 3])]).await.is_refused("wrongAudioFormat", &names);
    let ogg = greenroom.session("ogg_opus").await;
    greenroom.audio(&ogg, &[CLIP]).await.is_refused("wrongAudioFormat", &["WAV", "ogg_opus"]);
    greenroom.audio(&ogg, &[&CLIP[HEADER..]]).await.is_refused("wrongAudioFormat", &["raw PCM", "ogg_opus"]);
    assert_eq!(greenroom.simulator.stats().audio_bytes, 0);
    greenroom.stop().await;
}
