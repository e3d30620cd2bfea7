// The notification service of the specification's stack: a row and a receipt for every guardian.
const { randomUUID } = require("node:crypto");
const { consume, inTransaction } = require("./servers");

async function tell({ tenantId, data }) {
  if (!data.recipients.length) return;
  const now = Date.now();
  const told = data.recipients.map((guardian) => ({ id: `ntf_${randomUUID()}`, guardian }));
  const title = `${data.studentName}（${data.className}）已入园`;
  await inTransaction(async (connection) => {
    // A message that comes again tells nobody twice.
    const [stored] = await connection.query(
      `INSERT IGNORE INTO notifications (id, tenant_id, user_id, recipient, event_id, title, created_at) VALUES ?`,
      [told.map(({ id, guardian }) => [id, tenantId, guardian.userId, guardian.guardianId, data.id, title, now])],
    );
    if (stored.affectedRows === 0) return;
    await connection.query(
      "INSERT INTO notification_receipts (notification_id, channel, tenant_id, status, updated_at) VALUES ?",
      [told.map(({ id }) => [id, "inapp", tenantId, "delivered", now])],
    );
  });
}

consume("notification.queue", 50, tell);
