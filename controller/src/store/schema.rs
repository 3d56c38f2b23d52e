//! The migrations, embedded: a folder per engine, a file per step, never changed once released.

use super::Error;
use sqlx::{
    SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqlitePool,
};
use std::path::Path;

const STEPS: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("../../migrations/sqlite/0001_first.sql")),
    (2, "job sources", include_str!("../../migrations/sqlite/0002_job_sources.sql")),
    (3, "leases", include_str!("../../migrations/sqlite/0003_leases.sql")),
    (4, "identity", include_str!("../../migrations/sqlite/0004_identity.sql")),
    (5, "enrolment", include_str!("../../migrations/sqlite/0005_enrolment.sql")),
    (6, "secrets", include_str!("../../migrations/sqlite/0006_secrets.sql")),
    (7, "broker and digests", include_str!("../../migrations/sqlite/0007_broker_and_digests.sql")),
    (8, "fleet", include_str!("../../migrations/sqlite/0008_fleet.sql")),
    (9, "fair claims", include_str!("../../migrations/sqlite/0009_fair_claims.sql")),
    (10, "use of GPUs", include_str!("../../migrations/sqlite/0010_gpu_usage.sql")),
    (11, "open calls", include_str!("../../migrations/sqlite/0011_open_calls.sql")),
    (12, "opened contents", include_str!("../../migrations/sqlite/0012_opened_contents.sql")),
    (13, "shared lanes", include_str!("../../migrations/sqlite/0013_shared_lanes.sql")),
    (14, "submitters", include_str!("../../migrations/sqlite/0014_submitters.sql")),
    (15, "actions", include_str!("../../migrations/sqlite/0015_actions.sql")),
    (17, "run keys", include_str!("../../migrations/sqlite/0017_run_keys.sql")),
    (18, "after", include_str!("../../migrations/sqlite/0018_after.sql")),
    (19, "triggers", include_str!("../../migrations/sqlite/0019_triggers.sql")),
    (20, "batches", include_str!("../../migrations/sqlite/0020_batches.sql")),
    (22, "seen objects gone", include_str!("../../migrations/sqlite/0022_seen_objects_gone.sql")),
    (23, "lost mints", include_str!("../../migrations/sqlite/0023_lost_mints.sql")),
];

pub(super) async fn migrate(pool: &SqlitePool, path: &Path) -> Result<(), Error> {
    let steps = STEPS.iter().map(|&(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(steps.collect()).run(pool).await.map_err(|error| Error::file(path, error))
}
