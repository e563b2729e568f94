//! What a drop-in client and the service say to each other, through Greenroom.

use super::client::Upgrade;
use crate::world::{ACME, World, silence};

#[actix_rt::test]
async fn a_clip_comes_back_as_the_service_sent_it() {
    let world = World::start("").await;
    for upgrade in
        [Upgrade::new(&world, ACME, "one").await, Upgrade::new(&world, ACME, "one").await.in_query()]
    {
        let (mut client, confirm) = upgrade.start().await;
        assert!(confirm.connection_id.starts_with("conn_"), "the service's own: {confirm:?}");
        assert_eq!(confirm.capabilities, ["playback_state", "playback_control"]);
        client.audio("20260101000000_aaaaaaaaaaaa", silence(10), false).await;
        client.audio("20260101000000_aaaaaaaaaaaa", silence(15), true).await;
        let frames = client.frames("20260101000000_aaaaaaaaaaaa").await;
        assert_eq!(frames.len(), 25);
        assert!(frames.iter().all(|frame| frame.connection_id == confirm.connection_id));
        client.leave().await;
    }
    world.end().await;
}
