// A receiver for tests: STARTTLS and log-in required, each message kept as a file.
// Arguments: key, certificate, folder, port, user, password.
const fs = require("node:fs");
const path = require("node:path");
const { SMTPServer } = require("smtp-server");

const [key, certificate, folder, port, user, password] = process.argv.slice(2);
let count = 0;

const server = new SMTPServer({
  key: fs.readFileSync(key),
  cert: fs.readFileSync(certificate),
  authMethods: ["PLAIN", "LOGIN"],
  // There is no name server to ask, and waiting for one takes half a minute.
  disableReverseLookup: true,
  onAuth(auth, session, done) {
    const good = auth.username === user && auth.password === password && session.secure;
    done(good ? null : new Error("Invalid username or password"), good ? { user } : undefined);
  },
  onData(stream, session, done) {
    count += 1;
    const file = fs.createWriteStream(path.join(folder, `${count}.eml`));
    stream.pipe(file);
    file.on("finish", () => done(null, "kept"));
  },
});
server.on("error", () => {});
server.listen(Number(port), "127.0.0.1");
