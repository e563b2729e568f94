//! What a body becomes, in every cut.

use proptest::prelude::*;

use super::*;

fn spec(format: AudioFormat) -> SessionSpec {
    SessionSpec { audio_format: format, ..SessionSpec::for_avatar("a") }
}

fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut chunk = [&name[..], &(body.len() as u32).to_le_bytes(), body].concat();
    chunk.resize(chunk.len() + body.len() % 2, 0);
    chunk
}

fn fmt(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let align = channels * bits / 8;
    let mut fmt = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
    fmt.extend(rate.to_le_bytes());
    fmt.extend((rate * u32::from(align)).to_le_bytes());
    fmt.extend(align.to_le_bytes());
    fmt.extend(bits.to_le_bytes());
    fmt
}

fn extensible(subformat: u8) -> Vec<u8> {
    let mut fmt = fmt(0xFFFE, 1, 16_000, 16);
    fmt.extend([22, 0, 16, 0, 4, 0, 0, 0, subformat, 0]);
    fmt.extend([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71]);
    fmt
}

fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    [b"RIFF", &(chunks.len() as u32 + 4).to_le_bytes()[..], b"WAVE", &chunks].concat()
}

fn usual(samples: &[u8]) -> Vec<u8> {
    riff(&[chunk(b"fmt ", &fmt(1, 1, 16_000, 16)), chunk(b"data", samples)])
}

fn page(flags: u8, serial: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(0_u64.to_le_bytes());
    page.extend(serial.to_le_bytes());
    page.extend(sequence.to_le_bytes());
    page.extend([0; 4]);
    page.push(u8::try_from(body.len().div_ceil(255)).unwrap());
    page.extend(body.chunks(255).map(|segment| segment.len() as u8));
    page.extend(body);
    page
}

fn opus(sequences: &[u32]) -> Vec<u8> {
    let mut stream = page(2, 7, 0, b"OpusHead\x01\x01\x00\x00\x80\xbb\0\0\0\0\0");
    for sequence in sequences {
        stream.extend(page(0, 7, *sequence, &[9; 300]));
    }
    stream
}

/// Feeds the pieces, then ends: all that is passed on.
fn through(mut intake: Intake, pieces: &[&[u8]]) -> Result<Vec<u8>, BadAudio> {
    let mut audio = Vec::new();
    for piece in pieces {
        audio.extend(intake.feed(Bytes::copy_from_slice(piece))?);
        if intake.format == AudioFormat::PcmS16le {
            assert_eq!(audio.len() % 2, 0, "a sample was cut in two");
        }
    }
    audio.extend(intake.finish()?);
    assert_eq!(intake.finish(), Ok(Bytes::new()), "the end was told twice");
    Ok(audio)
}

fn pcm(pieces: &[&[u8]]) -> Result<Vec<u8>, BadAudio> {
    through(Intake::new(&spec(AudioFormat::PcmS16le), false, None), pieces)
}

fn ogg(pieces: &[&[u8]]) -> Result<Vec<u8>, BadAudio> {
    through(Intake::new(&spec(AudioFormat::OggOpus), false, None), pieces)
}

#[track_caller]
fn wrong_format(outcome: Result<Vec<u8>, BadAudio>, names: &[&str]) {
    let Err(BadAudio::WrongFormat(text)) = outcome else { panic!("{outcome:?}") };
    assert!(names.iter().all(|name| text.contains(name)), "{text}");
}

#[track_caller]
fn bad_ogg(outcome: Result<Vec<u8>, BadAudio>, names: &[&str]) {
    let Err(BadAudio::Ogg(text)) = outcome else { panic!("{outcome:?}") };
    assert!(names.iter().all(|name| text.contains(name)), "{text}");
}

#[track_caller]
fn bad_wav(outcome: Result<Vec<u8>, BadAudio>, name: &str) {
    let Err(BadAudio::Wav(text)) = outcome else { panic!("{outcome:?}") };
    assert!(text.contains(name), "{text}");
}

const SAMPLES: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

#[test]
fn a_wav_files_samples_come_out_however_it_is_cut_in_three() {
    let file = riff(&[
        chunk(b"LIST", b"odd"),
        chunk(b"fmt ", &extensible(1)),
        chunk(b"data", &SAMPLES),
        chunk(b"LIST", b"behind"),
    ]);
    for first in 0..=file.len() {
        for second in first..=file.len() {
            let pieces = [&file[..first], &file[first..second], &file[second..]];
            assert_eq!(pcm(&pieces).unwrap(), SAMPLES, "cut at {first} and {second}");
        }
    }
}

#[test]
fn samples_of_a_streamed_wav_run_to_the_end_of_the_body() {
    for size in [0, 0x7FFF_F000, u32::MAX] {
        let mut file = usual(&[]);
        let at = file.len() - 4;
        file[at..].copy_from_slice(&size.to_le_bytes());
        file.extend(SAMPLES);
        assert_eq!(pcm(&[&file]).unwrap(), SAMPLES, "{size:#x}");
    }
}

#[test]
fn a_wav_file_of_another_format_is_refused_by_both_values() {
    let with = |tag, channels, rate, bits| {
        pcm(&[&riff(&[chunk(b"fmt ", &fmt(tag, channels, rate, bits)), chunk(b"data", &SAMPLES)])])
    };
    wrong_format(with(1, 1, 44_100, 16), &["44100 Hz", "16000 Hz"]);
    wrong_format(with(1, 2, 16_000, 16), &["2 channels", "takes 1"]);
    wrong_format(with(1, 1, 16_000, 8), &["8 bits", "takes 16"]);
    wrong_format(with(3, 2, 8000, 32), &["floating point", "8000 Hz", "2 channels", "32 bits"]);
    let float = riff(&[chunk(b"fmt ", &extensible(3)), chunk(b"data", &SAMPLES)]);
    wrong_format(pcm(&[&float]), &["floating point"]);
}

#[test]
fn a_wav_file_that_is_none_is_refused() {
    let long = chunk(b"junk", &vec![0; 1 << 20]);
    bad_wav(pcm(&[&riff(&[long, chunk(b"fmt ", &fmt(1, 1, 16_000, 16))])]), "junk");
    bad_wav(pcm(&[&riff(&[chunk(b"data", &SAMPLES)])]), "no `fmt `");
    bad_wav(pcm(&[&riff(&[chunk(b"fmt ", &[1, 0])])]), "2 bytes");
    let file = usual(&SAMPLES);
    for end in 12..file.len() - SAMPLES.len() {
        bad_wav(pcm(&[&file[..end]]), "before its samples");
    }
    bad_wav(pcm(&[&file[..file.len() - 4]]), "4 bytes");
}

#[test]
fn many_empty_chunks_before_the_samples_are_bounded() {
    let empty = chunk(b"none", &[]);
    bad_wav(pcm(&[&riff(&vec![empty; (1 << 17) + 1])]), "none");
}

#[test]
fn raw_samples_come_out_as_they_are_also_where_they_begin_like_a_file() {
    for raw in [&b"RIFFabcdWAVX"[..], b"RIFF", b"RI", b"OggSxx", b"OggS\x00\x00", b"Og", &SAMPLES] {
        for cut in 0..=raw.len() {
            assert_eq!(pcm(&[&raw[..cut], &raw[cut..]]).unwrap(), raw);
        }
    }
}

#[test]
fn an_odd_rest_is_refused_and_one_that_is_announced_before_anything_is_passed_on() {
    assert_eq!(pcm(&[b"abc", b"de"]), Err(BadAudio::Odd(5)));
    let mut intake = Intake::new(&spec(AudioFormat::PcmS16le), false, Some(5));
    assert_eq!(intake.feed(Bytes::from_static(b"abcd")), Err(BadAudio::Odd(5)));
    // The length of a file says nothing of its samples.
    let file = [usual(&SAMPLES), vec![0]].concat();
    let intake = Intake::new(&spec(AudioFormat::PcmS16le), false, Some(file.len()));
    assert_eq!(through(intake, &[&file]).unwrap(), SAMPLES);
    assert_eq!(pcm(&[&usual(&SAMPLES[..5])]), Err(BadAudio::Odd(5)));
}

#[test]
fn a_body_of_the_other_format_is_refused_by_both() {
    wrong_format(pcm(&[&opus(&[1])]), &["Ogg", "pcm_s16le"]);
    wrong_format(ogg(&[&usual(&SAMPLES)]), &["WAV", "ogg_opus"]);
    wrong_format(ogg(&[&SAMPLES]), &["raw PCM", "ogg_opus"]);
    wrong_format(ogg(&[b"O", b"ther audio"]), &["ogg_opus"]);
    for cut in 0..12 {
        let file = usual(&SAMPLES);
        wrong_format(ogg(&[&file[..cut], &file[cut..]]), &["WAV", "ogg_opus"]);
    }
}

#[test]
fn an_opus_stream_comes_out_unchanged_however_it_is_cut_in_two() {
    let stream = [opus(&[1, 2]), page(4, 7, 3, &[])].concat();
    for cut in 0..=stream.len() {
        assert_eq!(ogg(&[&stream[..cut], &stream[cut..]]).unwrap(), stream, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(ogg(&bytes).unwrap(), stream);
}

#[test]
fn nothing_of_a_stream_is_passed_on_before_it_is_known_to_be_opus() {
    let vorbis = page(2, 7, 0, b"\x01vorbis and more of it");
    let mut intake = Intake::new(&spec(AudioFormat::OggOpus), false, None);
    let mut passed = 0;
    let refused = vorbis.chunks(1).find_map(|byte| match intake.feed(Bytes::copy_from_slice(byte)) {
        Ok(audio) => {
            passed += audio.len();
            None
        }
        Err(bad) => Some(bad),
    });
    assert!(matches!(refused, Some(BadAudio::Ogg(_))), "{refused:?}");
    assert_eq!(passed, 0);
}

#[test]
fn a_stream_that_is_not_continuous_is_refused_where_it_breaks() {
    bad_ogg(ogg(&[&opus(&[1, 3])]), &["gap", "3 follows 1", "page 3 of the body"]);
    let at = opus(&[]).len();
    let other = [opus(&[]), page(0, 8, 1, &[])].concat();
    bad_ogg(ogg(&[&other]), &["from 7 to 8", &format!("at byte {at}")]);
    bad_ogg(ogg(&[&[opus(&[]), opus(&[])].concat()]), &["begins anew"]);
    bad_ogg(ogg(&[&page(0, 7, 0, b"OpusHead\x01")]), &["first page"]);
    bad_ogg(ogg(&[&page(2, 7, 0, b"OpusHead\x10")]), &["version"]);
    bad_ogg(ogg(&[&page(2, 7, 0, b"OpusHea")]), &["no OpusHead"]);
    bad_ogg(ogg(&[&page(2, 7, 0, b"")]), &["no OpusHead"]);
    bad_ogg(ogg(&[&[opus(&[]), b"OggS\x01".to_vec()].concat()]), &["no page", "page 2"]);
    let stream = opus(&[1]);
    for end in (1..stream.len()).filter(|end| *end != at) {
        bad_ogg(ogg(&[&stream[..end]]), &["cut off"]);
    }
}

#[test]
fn an_open_request_goes_on_with_the_streams_later_pages() {
    let intake = || Intake::new(&spec(AudioFormat::OggOpus), true, None);
    let later = [page(0, 7, 5, &[1; 40]), page(4, 7, 6, &[])].concat();
    assert_eq!(through(intake(), &[&later]).unwrap(), later);
    bad_ogg(through(intake(), &[&opus(&[])]), &["begins anew"]);
    bad_ogg(through(intake(), &[b"more"]), &["no page"]);
    assert_eq!(through(intake(), &[]).unwrap(), b"");
}

/// Bytes that look like a file for a while.
fn nearly_audio() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![Just(usual(&SAMPLES)), Just(opus(&[1, 2])), Just(Vec::new())];
    (whole, proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<Vec<u8>>())
        .prop_map(|(mut bytes, changes, behind)| {
            bytes.extend(behind);
            for (index, byte) in changes {
                if !bytes.is_empty() {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes
        })
}

proptest! {
    #[test]
    fn whatever_comes_is_passed_or_refused_the_same_in_every_cut(
        bytes in nearly_audio(),
        cuts in proptest::collection::vec(1_usize..40, 1..20),
        format in prop_oneof![Just(AudioFormat::PcmS16le), Just(AudioFormat::OggOpus)],
        continues: bool,
    ) {
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = later;
        }
        let intake = || Intake::new(&spec(format), continues, None);
        prop_assert_eq!(through(intake(), &pieces), through(intake(), &[&bytes]));
    }
}
