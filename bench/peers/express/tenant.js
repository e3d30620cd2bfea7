// The tenant service of the specification's stack: Express + mysql2 + amqplib. Its gateway is
// ../express-gateway.js; notification.js and analytics.js consume what it publishes.
//
// Written to be fair: prepared statements, one joined look-up for child and class, a pool, keep-alive,
// confirms that are awaited by many requests at once, prefetch. Of what 园联 does for the same request it
// leaves out: the outbox (a crash between commit and publish loses the message), the inbox, folding by the
// order of occurrence, permissions with conditions, suspended tenants at the gateway, revoked tokens, live
// boards, dead letters and retries with growing pauses, metrics and access logs, discovery, and Redis. Its
// queues are classic and durable, which cost less than the quorum queues of ours.
//   PORT; MYSQL_*, AMQP_URL: as servers.js takes them
const { randomUUID } = require("node:crypto");
const express = require("express");
const { ATTENDANCE_UPDATE, EXCHANGE, connectBroker, inTransaction, pool } = require("./servers");

const LATE_AFTER = "09:00";
const TYPES = new Set(["check_in", "check_out", "absent", "leave"]);
const time = new Intl.DateTimeFormat("en-GB", { timeZone: "Asia/Shanghai", hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat("sv-SE", { timeZone: "Asia/Shanghai" });

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function findStudent(tenantId, userId, studentId) {
  const [[student]] = await pool.execute(
    `SELECT s.id, s.name, s.status, s.class_id AS classId, c.name AS className, t.status AS tenantStatus
       FROM students s JOIN classes c ON c.id = s.class_id JOIN tenants t ON t.id = s.tenant_id
      WHERE s.id = ? AND s.tenant_id = ?`,
    [studentId, tenantId],
  );
  if (!student) throw new Refused(404, "资源不存在");
  if (student.tenantStatus !== "active") throw new Refused(403, "租户不可用");
  const [[own]] = await pool.execute("SELECT 1 FROM staff_classes WHERE user_id = ? AND class_id = ?", [
    userId,
    student.classId,
  ]);
  if (!own) throw new Refused(403, "权限不足");
  return student;
}

async function findGuardians(tenantId, studentId) {
  const [guardians] = await pool.execute(
    `SELECT g.id AS guardianId, g.user_id AS userId, g.name, sg.relation
       FROM student_guardians sg JOIN guardians g ON g.id = sg.guardian_id
      WHERE sg.student_id = ? AND sg.tenant_id = ? AND sg.receives_notices`,
    [studentId, tenantId],
  );
  return guardians;
}

async function store(tenantId, event) {
  return inTransaction(async (connection) => {
    await connection.execute(
      `INSERT INTO attendance_events (id, tenant_id, event_id, student_id, class_id, type, date, occurred_at,
              received_at, method, temperature, recorded_by, day_state) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`,
      [event.id, tenantId, event.eventId, event.studentId, event.classId, event.type, event.date, event.occurredAt,
        event.receivedAt, event.method, event.temperature, event.recordedBy, event.dayState],
    );
    await connection.execute(
      `INSERT INTO attendance_days (student_id, date, tenant_id, class_id, state, first_in_at, temperature, version)
       VALUES (?,?,?,?,?,?,?,1)
       ON DUPLICATE KEY UPDATE state = VALUES(state), temperature = VALUES(temperature), version = version + 1`,
      [event.studentId, event.date, tenantId, event.classId, event.dayState, event.occurredAt, event.temperature],
    );
    const [[day]] = await connection.execute(
      "SELECT version FROM attendance_days WHERE student_id = ? AND date = ?",
      [event.studentId, event.date],
    );
    return day.version;
  });
}

function publish(channel, message) {
  return new Promise((resolve, reject) => {
    channel.publish(
      EXCHANGE,
      ATTENDANCE_UPDATE,
      Buffer.from(JSON.stringify(message)),
      { persistent: true, mandatory: true, messageId: message.id, contentType: "application/json" },
      (error) => (error ? reject(error) : resolve()),
    );
  });
}

async function record(channel, userId, tenantId, data) {
  const student = await findStudent(tenantId, userId, data.studentId);
  if (student.status !== "active") throw new Refused(409, "该幼儿已不在园");
  const recipients = await findGuardians(tenantId, student.id);
  const receivedAt = Date.now();
  const occurredAt = data.occurredAt ?? receivedAt;
  const event = {
    id: `att_${randomUUID()}`,
    eventId: data.eventId ?? randomUUID(),
    studentId: student.id,
    classId: student.classId,
    type: data.type,
    date: date.format(occurredAt),
    occurredAt,
    receivedAt,
    method: data.method ?? null,
    temperature: data.temperature ?? null,
    recordedBy: userId,
    dayState: time.format(occurredAt) > LATE_AFTER ? "late" : "present",
  };
  const dayVersion = await store(tenantId, event);
  await publish(channel, {
    id: `msg_${randomUUID()}`,
    type: ATTENDANCE_UPDATE,
    timestamp: receivedAt,
    tenantId,
    data: { ...event, studentName: student.name, className: student.className, dayVersion, recipients },
    retry: 3,
    delay: 0,
  });
  return event;
}

async function main() {
  const channel = await (await connectBroker()).createConfirmChannel();
  await channel.assertExchange(EXCHANGE, "topic", { durable: true });
  const app = express();
  app.use(express.json({ limit: "1mb" }));

  app.post("/api/tenant/attendance/events", async (request, response) => {
    const started = performance.now();
    const data = request.body?.data;
    if (typeof data?.studentId !== "string" || !TYPES.has(data.type)) throw new Refused(400, "请求参数错误");
    const event = await record(channel, request.get("X-User-ID"), request.get("X-Tenant-ID"), data);
    response.status(201).json({
      success: true,
      code: 201,
      message: "操作成功",
      data: event,
      meta: {
        timestamp: Date.now(),
        requestId: request.get("X-Request-ID"),
        duration: Math.round(performance.now() - started),
      },
    });
  });

  app.use((error, _request, response, _next) => {
    const status = error.status ?? (error.code === "ER_DUP_ENTRY" ? 409 : 500);
    if (status === 500) console.error(error);
    response.status(status).json({ success: false, code: status, message: status === 500 ? "内部错误" : error.message });
  });

  const server = app.listen(Number(process.env.PORT), "127.0.0.1", 4096);
  server.keepAliveTimeout = 60_000;
}

main();
