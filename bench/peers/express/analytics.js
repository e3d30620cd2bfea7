// The analytics service of the specification's stack: the newest state of every child's day.
const { consume, pool } = require("./servers");

async function count({ tenantId, data }) {
  await pool.execute(
    `INSERT INTO analytics_student_days (student_id, date, tenant_id, class_id, state, version)
     VALUES (?,?,?,?,?,?)
     ON DUPLICATE KEY UPDATE
       class_id = IF(VALUES(version) >= version, VALUES(class_id), class_id),
       state = IF(VALUES(version) >= version, VALUES(state), state),
       version = GREATEST(version, VALUES(version))`,
    [data.studentId, data.date, tenantId, data.classId, data.dayState, data.dayVersion],
  );
}

consume("analytics.queue", 50, count);
