// fastify and its own proxy plugin, which only forwards: no token, no limit, no log.
//   PORT, UPSTREAM: ports on 127.0.0.1.
const app = require("fastify")();

app.register(require("@fastify/http-proxy"), {
  upstream: `http://127.0.0.1:${process.env.UPSTREAM}`,
  undici: { connections: 256 },
});
app.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
