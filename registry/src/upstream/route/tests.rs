use super::*;

#[tokio::test(start_paused = true)]
async fn a_mirror_that_fails_rests_for_longer_each_time() {
    let standing = Standing::default();
    assert!(!standing.is_resting());
    let mut rests = Vec::new();
    for _ in 0..7 {
        rests.push(standing.has_failed().unwrap().as_secs());
        assert!(standing.is_resting());
        assert_eq!(standing.has_failed(), None, "what was under way fails with it");
        tokio::time::advance(Duration::from_secs(*rests.last().unwrap())).await;
        assert!(!standing.is_resting());
    }
    assert_eq!(rests, [30, 60, 120, 240, 480, 600, 600]);
    standing.has_answered();
    assert_eq!(standing.has_failed(), Some(FIRST_REST));
}
