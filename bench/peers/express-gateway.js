// The gateway of the specification: Express, a token check, a rate limit, and axios to the service.
// Keep-alive towards the service is on: without it the figure would be axios' and not the design's.
//   PORT, UPSTREAM: ports on 127.0.0.1. JWT_SECRET, JWT_ISSUER, JWT_AUDIENCE: of the access token.
const http = require("node:http");
const axios = require("axios");
const express = require("express");
const jwt = require("jsonwebtoken");
const { rateLimit } = require("express-rate-limit");

const { PORT, UPSTREAM, JWT_SECRET, JWT_ISSUER, JWT_AUDIENCE } = process.env;
const service = axios.create({
  baseURL: `http://127.0.0.1:${UPSTREAM}`,
  timeout: 30_000,
  httpAgent: new http.Agent({ keepAlive: true, maxSockets: 1024 }),
  validateStatus: () => true,
});
const app = express();
let requests = 0;

app.use((request, response, next) => {
  try {
    const token = (request.headers.authorization ?? "").slice("Bearer ".length);
    request.user = jwt.verify(token, JWT_SECRET, {
      algorithms: ["HS256"],
      issuer: JWT_ISSUER,
      audience: JWT_AUDIENCE,
    });
    next();
  } catch {
    response.status(401).json({ success: false, code: 401 });
  }
});
app.use(rateLimit({ windowMs: 900_000, limit: 1_000_000_000, keyGenerator: (request) => request.user.sub }));
app.use(express.json({ limit: "1mb" }));

app.use(async (request, response) => {
  const { connection, host, "content-length": _, ...headers } = request.headers;
  try {
    const answer = await service.request({
      method: request.method,
      url: request.path,
      params: request.query,
      data: request.body,
      headers: {
        ...headers,
        "X-Request-ID": `req_${++requests}`,
        "X-User-ID": request.user.sub,
        "X-Tenant-ID": request.user.tenantId,
        "X-Forwarded-For": request.ip,
      },
    });
    response.status(answer.status).json(answer.data);
  } catch {
    response.status(502).json({ success: false, code: 502 });
  }
});

app.listen(Number(PORT), "127.0.0.1", 4096);
