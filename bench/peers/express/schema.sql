-- The tables of the specification's stack: the rows that 园联 writes, too, with the keys that the
-- statements of these services look up.
CREATE TABLE tenants (id VARCHAR(64) PRIMARY KEY, name VARCHAR(100) NOT NULL, status VARCHAR(16) NOT NULL);
CREATE TABLE classes (
  id VARCHAR(64) PRIMARY KEY, tenant_id VARCHAR(64) NOT NULL, name VARCHAR(50) NOT NULL, INDEX (tenant_id));
CREATE TABLE staff_classes (
  user_id VARCHAR(64), class_id VARCHAR(64), tenant_id VARCHAR(64) NOT NULL, PRIMARY KEY (user_id, class_id));
CREATE TABLE students (
  id VARCHAR(64) PRIMARY KEY, tenant_id VARCHAR(64) NOT NULL, class_id VARCHAR(64) NOT NULL,
  name VARCHAR(50) NOT NULL, status VARCHAR(16) NOT NULL, INDEX (tenant_id, class_id));
CREATE TABLE guardians (
  id VARCHAR(64) PRIMARY KEY, tenant_id VARCHAR(64) NOT NULL, user_id VARCHAR(64), name VARCHAR(50) NOT NULL,
  INDEX (tenant_id));
CREATE TABLE student_guardians (
  student_id VARCHAR(64), guardian_id VARCHAR(64), tenant_id VARCHAR(64) NOT NULL, relation VARCHAR(20) NOT NULL,
  receives_notices BOOLEAN NOT NULL, PRIMARY KEY (student_id, guardian_id));
CREATE TABLE attendance_events (
  id VARCHAR(64) PRIMARY KEY, tenant_id VARCHAR(64) NOT NULL, event_id VARCHAR(64) NOT NULL,
  student_id VARCHAR(64) NOT NULL, class_id VARCHAR(64) NOT NULL, type VARCHAR(16) NOT NULL, date DATE NOT NULL,
  occurred_at BIGINT NOT NULL, received_at BIGINT NOT NULL, method VARCHAR(8), temperature DOUBLE,
  recorded_by VARCHAR(64) NOT NULL, day_state VARCHAR(16) NOT NULL,
  UNIQUE (tenant_id, event_id), INDEX (tenant_id, student_id, occurred_at));
CREATE TABLE attendance_days (
  student_id VARCHAR(64), date DATE, tenant_id VARCHAR(64) NOT NULL, class_id VARCHAR(64) NOT NULL,
  state VARCHAR(16) NOT NULL, first_in_at BIGINT, temperature DOUBLE, version INT NOT NULL,
  PRIMARY KEY (student_id, date), INDEX (tenant_id, date));
CREATE TABLE notifications (
  id VARCHAR(64) PRIMARY KEY, tenant_id VARCHAR(64) NOT NULL, user_id VARCHAR(64), recipient VARCHAR(64) NOT NULL,
  event_id VARCHAR(64) NOT NULL, title VARCHAR(200) NOT NULL, created_at BIGINT NOT NULL,
  UNIQUE (event_id, recipient), INDEX (tenant_id, user_id));
CREATE TABLE notification_receipts (
  notification_id VARCHAR(64), channel VARCHAR(8), tenant_id VARCHAR(64) NOT NULL, status VARCHAR(12) NOT NULL,
  updated_at BIGINT NOT NULL, PRIMARY KEY (notification_id, channel));
CREATE TABLE analytics_student_days (
  student_id VARCHAR(64), date DATE, tenant_id VARCHAR(64) NOT NULL, class_id VARCHAR(64) NOT NULL,
  state VARCHAR(16) NOT NULL, version INT NOT NULL, PRIMARY KEY (student_id, date), INDEX (tenant_id, date));
