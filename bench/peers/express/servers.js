// How the three services reach MySQL and RabbitMQ: a pool with mysql2's own limit of connections, one
// connection to the broker, the specification's topic exchange and durable queues.
const amqp = require("amqplib");
const mysql = require("mysql2/promise");

const EXCHANGE = "kindergarten.topic";
const ATTENDANCE_UPDATE = "attendance.update";

const pool = mysql.createPool({
  host: "127.0.0.1",
  port: Number(process.env.MYSQL_PORT),
  user: process.env.MYSQL_USER,
  password: process.env.MYSQL_PASSWORD,
  database: process.env.MYSQL_DATABASE,
  connectionLimit: 10,
});

async function inTransaction(work) {
  const connection = await pool.getConnection();
  try {
    await connection.beginTransaction();
    const result = await work(connection);
    await connection.commit();
    return result;
  } catch (error) {
    await connection.rollback();
    throw error;
  } finally {
    connection.release();
  }
}

async function connectBroker() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  for (const event of ["error", "close"]) {
    connection.on(event, (error) => {
      console.error("RabbitMQ", event, error?.message);
      process.exit(1); // whoever started us starts us again
    });
  }
  return connection;
}

// Runs handle(message) for up to prefetch messages at once; a message that fails once comes again, one
// that fails twice is dropped.
async function consume(queue, prefetch, handle) {
  const channel = await (await connectBroker()).createChannel();
  await channel.assertExchange(EXCHANGE, "topic", { durable: true });
  await channel.assertQueue(queue, { durable: true });
  await channel.bindQueue(queue, EXCHANGE, ATTENDANCE_UPDATE);
  await channel.prefetch(prefetch);
  await channel.consume(queue, async (delivery) => {
    try {
      await handle(JSON.parse(delivery.content));
      channel.ack(delivery);
    } catch (error) {
      console.error(queue, error.message);
      channel.nack(delivery, false, !delivery.fields.redelivered);
    }
  });
  console.log("consuming", queue);
}

module.exports = { EXCHANGE, ATTENDANCE_UPDATE, pool, inTransaction, connectBroker, consume };
