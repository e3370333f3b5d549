import { expect, test } from 'vitest';
import { SluiceError } from '../../shared/errors.ts';
import { hubAddress } from './hub-address.ts';

const token = 'slc_abc';

test('an address of any usual form becomes that of the uplink', () => {
  expect(hubAddress('http://127.0.0.1:8080', token, null).url).toBe('ws://127.0.0.1:8080/v1/uplink');
  expect(hubAddress('https://hub.example/sluice/', token, null).url).toBe('wss://hub.example/sluice/v1/uplink');
  expect(hubAddress('wss://[::1]:1', token, null).url).toBe('wss://[::1]:1/v1/uplink');
});

test('what cannot be an uplink is refused at once, a CA file without encryption too', () => {
  const refused = (url: string, by = token, caFile: string | null = null): string => {
    try {
      hubAddress(url, by, caFile);
      return '';
    } catch (error) {
      return error instanceof SluiceError ? error.code : String(error);
    }
  };
  for (const url of ['', 'hub', 'ftp://hub', 'localhost:8080']) expect(refused(url)).toBe('ERR_UPLINK_URL');
  for (const wrong of ['', 'a b', 'a\r\nx: y']) expect(refused('http://hub', wrong)).toBe('ERR_UPLINK_URL');
  expect(refused('https://hub', token, '/nonexistent/ca.pem')).toBe('ERR_UPLINK_URL');
  expect(refused('http://hub', token, import.meta.filename)).toBe('ERR_UPLINK_URL');
});
